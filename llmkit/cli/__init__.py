"""The command line: names, options, configuration files, what a person sees. Nothing else imports it."""

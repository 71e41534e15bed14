"""The commands, one thin module each; `llmkit.cli.names` lists them."""

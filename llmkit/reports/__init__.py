"""A result as a file: for programs (json), people (markdown, html) and CI systems (junit).

A report is a function from a `Result` to text, in `formats`; a new one is a module here and a line there.
"""

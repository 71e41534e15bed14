"""The version and the project's address, in a module of their own, so that every package can import them."""

__version__ = "0.1.0"
HOMEPAGE = "https://github.com/llmkit/llmkit"

"""Translation: languages, what a model can do with them, texts in pieces, and checks that nothing was lost."""

"""Models in GGUF, the file format of llama.cpp: header.py reads what a file says, folder.py makes a model folder of it, once."""

"""Data preparation: parse rows and pairs, tokenize them and split them, before a GPU is requested."""

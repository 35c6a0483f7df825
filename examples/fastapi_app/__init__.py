"""A small application on FastAPI whose models Noa manages."""

"""The same requests to the bare engine and through Noa."""

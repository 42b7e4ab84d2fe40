"""Stands in for channels_redis while its own tests run: their imports, our layer, a store of the tests' own."""

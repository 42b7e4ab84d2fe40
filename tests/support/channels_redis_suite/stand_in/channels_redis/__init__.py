"""Stands in for channels_redis while its own tests run: their imports, our layer, the store that the tests are given."""

"""Runs the tests of channels_redis against our channel layer, from the source of the pinned channels_redis."""

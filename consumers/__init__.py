"""The live doors: the websocket protocol and event streams, over one fan-out per process.

`routing.application` and `sse.application` are ASGI applications; the composition root gives them their connections and
ends them with `hub.hub().connections.drain()`.
"""

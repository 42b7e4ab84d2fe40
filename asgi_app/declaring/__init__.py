"""How a declaration is read: signature, parameters, bounds, spelling, options.  `asgi_app.registry` is its door."""

"""Behind `asgi_app.notices`: the tables of the inboxes, what is read of them, and who writes into them by itself."""

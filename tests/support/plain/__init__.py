"""What an application brings that has jobs of ours and plain Celery tasks of its own."""

"""What one would write without Millpond, each served by uvicorn with the same settings."""

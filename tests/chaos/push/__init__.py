"""Sockets, web processes and the store are cut, killed, frozen and starved; then what clients were told is judged."""

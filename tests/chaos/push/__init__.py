"""Sockets, web processes and the store are cut, killed, frozen and starved; then it is judged what clients were told."""

"""Reaching people."""

"""Modules with which a controller of any kind runs child Jobs."""

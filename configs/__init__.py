"""Configs and pins shipped as package data; every YAML file here runs as it is."""

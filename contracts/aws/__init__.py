"""The AWS APIs as Python types: one module per API, made by tools/generate_contracts.py.

`model` is written by hand, `index` says what a router needs of every API; all else is generated from the service
models. A service imports the APIs it serves and no others.
"""

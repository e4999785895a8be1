"""Directed acyclic graphs of vertices that emit tokens (arXiv 2205.07459), in torch alone.

L vertices are numbered from 0; vertex 0 is the start and emits nothing. A path goes from vertex 0
to the last one, each move leads to a higher number, and every vertex after the start emits one
token.
"""

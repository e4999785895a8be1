"""Directed acyclic graphs of vertices that emit tokens (arXiv 2205.07459), in torch alone.

L vertices are numbered from 0; vertex 0 is the start and emits nothing. A path goes from 0 to the
last vertex over ever later vertices, and every vertex after the start emits one token.
"""

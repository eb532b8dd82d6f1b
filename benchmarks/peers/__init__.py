"""What others do in the same workloads: python -m benchmarks.peers [NAME ...]

Each peer has an environment of its own in .venv/peers, made by uv from what `benchmarks.peers.catalogue` asks for, and
a module here that is a `Subject` for it. The module runs in that environment, so it imports nothing but the standard
library, the peer, and those modules of the benchmarks that do the same. A peer is used as its documentation tells a
beginner to, with two processes or threads for steps; graphs that it cannot say are driven by the client that waits for
results, and workloads that make no sense on it are left out.
"""

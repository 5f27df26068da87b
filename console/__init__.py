import os

# Read at langgraph's import: with it off, a checkpoint may name any importable type to build.
os.environ.setdefault("LANGGRAPH_STRICT_MSGPACK", "true")

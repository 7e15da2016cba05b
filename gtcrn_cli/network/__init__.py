"""The network: its configuration, its torch module, its model files. It knows no sound files."""

"""The encoders known by name: list, fetch, export; and `embed`, the bare encoder."""

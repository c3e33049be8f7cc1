"""One module per command of the `searchctl` command line."""

"""The model server's process: flags, configuration files, logs, main."""

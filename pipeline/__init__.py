"""The Shelfwise TFX pipeline: configuration, assembly and runners. Importing it is cheap."""

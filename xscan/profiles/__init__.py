"""Configuration presets, TOML."""

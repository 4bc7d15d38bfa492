"""Where inputs come from: pictures and data sources -> arrays."""

"""InfraValidator: a real server answers real requests."""

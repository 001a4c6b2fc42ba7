"""What people and logs must not see: masked texts, sealed payloads."""

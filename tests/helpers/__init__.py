"""What tests share: made-up event lists, archives, devices and processes."""

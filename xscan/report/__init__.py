"""What people see and take away: pictures, DS9 regions, tables and light curves in other formats."""

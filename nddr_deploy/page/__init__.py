"""What pages are made of: escaped markup, tables, small pictures, one style. Nothing from elsewhere is ever loaded."""

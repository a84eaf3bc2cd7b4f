"""Pure expressions: JMESPath conditions and `${{ }}` values."""

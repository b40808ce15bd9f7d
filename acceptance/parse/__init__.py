"""Pure parsers: text of a tool in, frozen dataclass out; what cannot be parsed raises ParseError."""

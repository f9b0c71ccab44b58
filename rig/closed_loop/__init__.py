"""From a decoder's answer to a command: what to do (pure), and doing it."""

"""Everything that talks to hardware. Concrete drivers are reached through their registration alone."""

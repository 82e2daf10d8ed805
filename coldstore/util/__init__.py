"""Small tools that know nothing of a tape or an object. Imports the standard library, Twisted and awscrt only."""

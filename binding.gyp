# The addon is described where its sources are: npm packages that have this file here are compiled on installing, so that
# the packed one has native/ alone.
{ "includes": ["native/binding.gyp"] }

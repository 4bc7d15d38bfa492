"""The editor's server, on the loopback interface only: text -> faults, figures and diagram; files opened and saved."""

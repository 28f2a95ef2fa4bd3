"""What featurizing would take on TPUs, found without one: ``ctrak plan``."""

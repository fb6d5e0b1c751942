"""One device: the constructors of its stages. The only place that chooses between devices."""

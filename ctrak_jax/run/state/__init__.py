"""What a run is doing and has done, as its folder says."""

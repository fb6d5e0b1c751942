"""What people may look at: pictures and encoded video of the streams, made while somebody looks."""

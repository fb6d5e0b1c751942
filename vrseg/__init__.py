"""vrseg: understand cameras, RTSP streams and VR video frame by frame, live, on your own machine."""

__version__ = "0.1.0"

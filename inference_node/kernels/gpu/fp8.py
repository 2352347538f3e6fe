"""What is known of e4m3 without running a kernel."""

# The largest number it holds: OCP 8-bit Floating Point Specification (2023), section 5.
FP8_MAX = 448.0

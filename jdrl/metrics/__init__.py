"""Image quality metrics: PSNR, SSIM, LPIPS, DISTS, colour and geometric drift."""

# Stage 6 after stages 0, 1 and 2.
_base_ = './jointformer_s026_6xb2-10k_lvos.py'

load_from = 'checkpoints/jointformer_s012.pth'

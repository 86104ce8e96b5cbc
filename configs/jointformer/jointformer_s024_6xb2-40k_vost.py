# Stage 4 after stages 0 and 2.
_base_ = './jointformer_s24_6xb2-40k_vost.py'

load_from = 'checkpoints/jointformer_s02.pth'

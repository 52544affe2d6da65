"""Hardware profiles."""

from fastapi import APIRouter

router = APIRouter()

// A small service: notes of users, with tags, times and a unique title.
const express = require('express');
const mongoose = require('mongoose');

const User = mongoose.model('User', new mongoose.Schema({ name: String }, { timestamps: true }));
const Note = mongoose.model('Note', new mongoose.Schema({
  title: { type: String, unique: true },
  tags: [String],
  comments: [{ text: String }],
  owner: { type: mongoose.Schema.Types.ObjectId, ref: 'User' },
}, { timestamps: true }));

const app = express();
app.use(express.json());
app.post('/users', async (request, response) => response.status(201).json(await User.create(request.body)));
app.post('/notes', async (request, response) => response.status(201).json(await Note.create(request.body)));
app.get('/notes', async (request, response) => {
  const filter = request.query.tag ? { tags: request.query.tag } : {};
  response.json(await Note.find(filter).sort({ title: 1 }).populate('owner'));
});
app.get('/notes/:id', async (request, response) => {
  const note = await Note.findById(request.params.id);
  response.status(note ? 200 : 404).json(note);
});
app.post('/notes/:id/comments', async (request, response) => {
  const change = { $push: { comments: { text: request.body.text } } };
  response.json(await Note.findByIdAndUpdate(request.params.id, change, { new: true }));
});
app.delete('/notes/:id', async (request, response) => {
  await Note.deleteOne({ _id: request.params.id });
  response.status(204).end();
});
app.use((error, request, response, next) => {
  response.status(error.code === 11000 ? 409 : 500).json({ code: error.code, keyPattern: error.keyPattern });
});

module.exports = { app, User, Note };
